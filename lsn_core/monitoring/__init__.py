"""Whether the photos that come in are still like those a detector was calibrated with."""
