"""Feature caching: what frozen stages compute is computed once, stored, and replayed."""
