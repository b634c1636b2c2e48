"""What each screen of the page shows, from what the stores hold: values in, values out.

Times are Unix seconds, durations are milliseconds.  Texts of pods, of other writers and of conditions are
passed on as they are: the page shows text as text.
"""
