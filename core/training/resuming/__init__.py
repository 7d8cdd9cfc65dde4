"""The run folder and the state in it, from which a killed run resumes exactly."""
