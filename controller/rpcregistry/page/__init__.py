"""The page: what an operator sees in a browser, and the JSON behind it.  It only reads.

``app`` answers requests, ``server`` listens, ``access`` says who may look.  What is shown is decided in
``plan.screens``; where it comes from is the port ``Looks``.  Only this room imports starlette and uvicorn,
and nothing imports it where the page is off.
"""
