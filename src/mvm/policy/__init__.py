"""What may be reached: hosts, grants and policies read, judged, compared and explained. Pure."""
