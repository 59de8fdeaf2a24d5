"""Is a run's folder as it was written?"""
