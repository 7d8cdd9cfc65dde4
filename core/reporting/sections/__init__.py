"""The sections that every report has, whatever the task."""
