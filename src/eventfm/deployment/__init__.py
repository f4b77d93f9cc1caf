"""What leaves a run: reports, exports, predictions."""
