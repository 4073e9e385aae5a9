"""Drawing which patches merged. ``dsm_ext.pictures`` offers these functions to users."""
