import asyncio

from hypothesis import settings

# Python 3.11 makes an event loop whenever one is asked for before any was set, as pytest-asyncio does beside tests
# that are not async; nobody closes that one. After this it is told that there is none instead.
asyncio.set_event_loop(None)

# A slow machine is no mistake of what is tested; many rules with few examples each find more than the reverse.
settings.register_profile("byokd", deadline=None, max_examples=60)
settings.load_profile("byokd")
