"""A speech model as a server: transcriptions as OpenAI's clients ask for them, and live streams over a WebSocket.

- `server.py`: the routes, the process and its end
- `guard.py`: what every request passes: token, limits, timeouts, errors as JSON
- `transcriptions.py`: uploaded recordings, one after another in a thread
- `streams.py`: live streams, computed together in another thread
- `metrics.py`: counters for Prometheus
"""

from biglittle_asr.serve.server import Server
from biglittle_asr.serve.settings import ServerSettings

__all__ = ["Server", "ServerSettings"]
