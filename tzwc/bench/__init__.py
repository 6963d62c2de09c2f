"""Measurements that the documentation quotes, behind ``tzwc bench``."""

from tzwc.bench.cache.cache import CacheBench, Request, run
from tzwc.bench.contenders import CONTENDERS

__all__ = ["CONTENDERS", "CacheBench", "Request", "run"]
