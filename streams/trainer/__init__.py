"""The trainer process: retrains the champion on what the stream saw, judges, promotes, tidies."""
