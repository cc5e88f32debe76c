"""The commands of `atelier`, a module a group."""
