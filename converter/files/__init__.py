"""Files and folders, whatever they hold: formats that are read, folders that are written whole."""
