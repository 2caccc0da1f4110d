from dspy_server.buckets import BUCKETS, get_bucket, is_canary


def test_buckets_are_pinned_because_every_pod_and_every_release_must_agree() -> None:
    vectors = {
        ("support-triage", "81c0aa55ee", "alice"): 9340,
        ("support-triage", "81c0aa55ee", "bob"): 9759,
        ("support-triage", "3f9a12c4d5", "alice"): 3010,
        ("p", "r", ""): 5174,
    }
    assert {key: get_bucket(*key) for key in vectors} == vectors


def test_a_rising_weight_only_adds_users() -> None:
    users = [f"user-{index}" for index in range(500)]
    earlier: set[str] = set()
    for weight in range(101):
        now = {user for user in users if is_canary("p", "r", user, weight)}
        assert earlier <= now
        earlier = now
    assert earlier == set(users)


def test_nobody_is_canary_at_weight_0() -> None:
    assert not any(is_canary("p", "r", f"user-{index}", 0) for index in range(10_000))


def test_buckets_are_uniform() -> None:
    cells = [0] * 20
    for index in range(20_000):
        cells[get_bucket("p", "r", f"user-{index}") * 20 // BUCKETS] += 1
    chi_squared = sum((count - 1000) ** 2 / 1000 for count in cells)
    assert chi_squared < 43.8  # 0.999 quantile of χ² with 19 degrees of freedom


def test_another_canary_gets_another_tenth_of_the_users() -> None:
    users = [f"user-{index}" for index in range(5000)]
    first = {user for user in users if is_canary("p", "one", user, 10)}
    second = {user for user in users if is_canary("p", "two", user, 10)}
    assert 20 <= len(first & second) <= 85  # 1 % of 5000, if the two are independent
