"""`koseki demo`: the main job on real purchases, by public ways in, with failures on the way.

`purchases.py` reads the data, `faults.py` kills processes, `run.py` tells the story, `report.py`
shows what was found and compares it with the data.
"""
