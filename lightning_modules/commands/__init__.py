"""The commands that need Lightning: exporting a checkpoint, explaining a whole data set on several devices."""
