from hypothesis import settings

# A slow machine is no mistake of what is tested; many rules with few examples each find more than the reverse.
settings.register_profile("byokd", deadline=None, max_examples=60)
settings.load_profile("byokd")
