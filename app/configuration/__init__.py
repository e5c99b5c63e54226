"""What a configuration may say, whoever reads it."""

from app.configuration import settings as settings  # for what it sets
from app.configuration.building import network_of, sources_of, timm_name, transforms_of
from app.configuration.chosen import Value, chosen
from app.configuration.fitting import Fitting

__all__ = ["Fitting", "Value", "chosen", "network_of", "sources_of", "timm_name", "transforms_of"]
