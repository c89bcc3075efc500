from base64 import urlsafe_b64decode

from agent.adapters.local.identity import new_credentials_id


def test_an_id_of_credentials_has_256_random_bits() -> None:
    ids = [new_credentials_id() for _ in range(200)]
    numbers = [int.from_bytes(urlsafe_b64decode(f"{each}="), "big") for each in ids]
    assert all(len(urlsafe_b64decode(f"{each}=")) == 32 for each in ids)
    assert len(set(ids)) == len(ids)
    # every bit is 0 somewhere and 1 somewhere: by chance it is not once in 10**57
    always, ever = numbers[0], 0
    for number in numbers:
        always, ever = always & number, ever | number
    assert (always, ever) == (0, 2**256 - 1)
