from tests.faults import harness


def pytest_collection_finish(session):
    for item in session.items:
        want = getattr(getattr(item, "obj", None), "want", None)
        if want is not None:
            callspec = getattr(item, "callspec", None)
            want(dict(callspec.params) if callspec else {})


def pytest_sessionfinish():
    harness.ahead.stop()
