"""What the parts of the study share: the model, its pictures, kept results, schedules."""
