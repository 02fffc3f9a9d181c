"""PyAV, the optional binding of FFmpeg that reads and writes videos."""

from typing import Any

from jaxvsr.errors import InputError


def require_av(purpose: str = "video") -> Any:
    """Imports PyAV.

    Args:
        purpose: what needs it, for the message.

    Raises:
        InputError: PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise InputError(
            f"{purpose} needs PyAV, which is not installed: pip install 'jaxvsr[video]'"
        ) from error
    return av
