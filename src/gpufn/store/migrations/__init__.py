"""Schema changes, oldest first. One that was released is never edited: expand, then contract."""
