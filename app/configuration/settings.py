"""How jsonargparse reads configurations here; this module is imported for what it sets."""

from __future__ import annotations

import torch
from jsonargparse import set_parsing_settings
from jsonargparse.typing import register_type

set_parsing_settings(import_path_denylist=[])  # refuse what jsonargparse itself lists, such as os and subprocess
register_type(torch.Tensor, serializer=torch.Tensor.tolist, deserializer=torch.tensor)  # as in `pref_vector: [1, 2]`
