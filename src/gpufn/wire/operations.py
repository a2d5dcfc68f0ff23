"""What admins ask of a running installation (control-plane page, section 20)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gpufn.wire.base import Wire
from gpufn.wire.deployments import MAX_SPECIFICATIONS, Maximum, Name


class RollOverSpecificationDto(Wire):
    """How many instances of one GPU specification are to be replaced."""

    gpu: Name
    instance_type: Name
    num_instances: Maximum


class RollOverRequest(Wire):
    """Those specifications of which not all instances are meant."""

    roll_over_specifications: Annotated[tuple[RollOverSpecificationDto, ...], Field(max_length=MAX_SPECIFICATIONS)] = ()


class RollOverResponse(Wire):
    """A request id for each GPU specification, in their order; the events of the deployment name it."""

    icms_request_ids: tuple[str, ...]


class UtilsImagesDto(Wire):
    """Images by language."""


class SidecarsDto(Wire):
    """Images of what stands beside an instance."""

    utils_container_image: UtilsImagesDto = UtilsImagesDto()


class GoldenImagesResponse(Wire):
    """There are no sidecars here, so none is named."""

    sidecars: SidecarsDto = SidecarsDto()
