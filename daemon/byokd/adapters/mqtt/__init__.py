"""The message bus over MQTT 5, on aiomqtt (asyncio-mqtt under its present name)."""
