"""Where weights come from: shipped, a local folder or the Hub; checked, read, kept in memory. `store.load` is the
door."""
