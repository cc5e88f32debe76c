"""The named specs to start from."""

from fastapi import APIRouter

from models.presets import PRESETS, Preset
from service.api.problems import responses
from service.api.replies import Listing, PresetReply
from service.errors import NotFound

router = APIRouter(prefix="/presets", tags=["presets"])


@router.get("", operation_id="listPresets", summary="List the presets", responses=responses())
def list_presets() -> Listing[PresetReply]:
    """All of them at once, in the order in which one would try them."""
    data = [_reply(preset) for preset in PRESETS.values()]
    return Listing(data=data, first_id=data[0].name, last_id=data[-1].name, has_more=False)


@router.get("/{name}", operation_id="getPreset", summary="Get a preset", responses=responses(404))
def get_preset(name: str) -> PresetReply:
    preset = PRESETS.get(name)
    if preset is None:
        raise NotFound(
            "preset_not_found",
            f"There is no preset {name!r}.",
            hint=f"There are {', '.join(PRESETS)}.",
            param="name",
        )
    return _reply(preset)


def _reply(preset: Preset) -> PresetReply:
    return PresetReply.model_validate(preset, from_attributes=True)
