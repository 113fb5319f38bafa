"""Shows stories: storyboards as picture and page, charts of metrics, maps of history weights."""
