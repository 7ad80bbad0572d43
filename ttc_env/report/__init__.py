"""Pages that show a solved game: see `ttc_env.report.pages`, and `ttc-env report`."""
