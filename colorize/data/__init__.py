"""Where rows come from, what they are while they travel, and where they end."""
