"""How often something happens."""

from pydantic import Field, model_validator

from models.spec.fields import Images, Model, Steps


class Interval(Model):
    """How often something happens: every so many images, or steps; left out, it is derived."""

    every_images: Images | None = Field(None, description="Interval in real images shown.")
    every_steps: Steps | None = Field(None, description="Interval in steps.")

    @model_validator(mode="after")
    def _at_most_one(self) -> "Interval":
        if self.every_images is not None and self.every_steps is not None:
            raise ValueError("give at most one of every_images and every_steps")
        return self
