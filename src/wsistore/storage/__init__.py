"""Where bytes live: one small contract, back ends that keep it, and decorators that change one thing each.

===============  =====================================================================================
module           job
===============  =====================================================================================
``base``         the contract: `Storage`, `Upload`, ranges, keys and what each promises
``local``        objects are files under a folder
``memory``       objects are in this process; with versions where asked
``s3``           objects are in a bucket; ``s3_*`` are its parts: options, the two libraries, errors, uploads
``fsspec_store`` objects are where fsspec can write
``retry``        decorator: repeats what failed in passing
``meter``        decorator: counts requests and bytes
``fault``        decorator: fails where a table says so
``readonly``     decorator: refuses every write
``archive``      ability: objects that must be restored before they can be read; ``s3_archive`` has it for buckets,
                 ``tape`` for folders with a tape library, ``archive_sim`` (decorator) for rehearsals
``open``         a URL becomes a `Storage`; tiers get and prove their identity
``coalescing``   which neighbouring parts are worth one request
``wrapper``      what the decorators have in common
===============  =====================================================================================
"""
