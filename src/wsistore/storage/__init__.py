"""Where bytes live: one small contract, back ends that keep it, and decorators that change one thing each.

===============  =====================================================================================
module           job
===============  =====================================================================================
``base``         the contract: `Storage`, `Upload`, ranges, keys and what each promises
``local``        objects are files under a folder
``memory``       objects are in this process; with versions where asked
``retry``        decorator: repeats what failed in passing
``meter``        decorator: counts requests and bytes
``fault``        decorator: fails where a table says so
``readonly``     decorator: refuses every write
``open``         a URL becomes a `Storage`; tiers get and prove their identity
``wrapper``      what the decorators have in common
===============  =====================================================================================
"""
