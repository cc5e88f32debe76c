"""The system of record: typed tables, one synchronous data layer, and one file a resource."""
