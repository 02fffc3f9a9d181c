"""Names of IIA-VSR and MIA-VSR in the official code (LabShuHangGU/MIA-VSR, archs/)."""

import dataclasses

from jaxvsr.weights.psrt import PSRT

IIAVSR = dataclasses.replace(
    PSRT, names=((r"predictor/linear/", "attn.predmask.rnn."), *PSRT.names)
)
