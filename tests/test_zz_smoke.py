def test_smoke(tiny_run, tmp_path):
    import time
    from subcam.pipeline import run
    t=time.time(); r = run(tiny_run, tmp_path/"r"); print(time.time()-t)
    t=time.time(); r = run(tiny_run, tmp_path/"r"); print(time.time()-t)
