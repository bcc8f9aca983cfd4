"""The demo needs nothing here: `pytest instances` finds the instances by the plugin alone."""
