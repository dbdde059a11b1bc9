"""Unknown prices are never zero; the settings come first; and names are understood."""

import subprocess
import sys
from typing import Any

import pytest
from genai_prices.data_snapshot import get_snapshot

from otel_agents.usage import UNSEEN, MeteredUsage, Prices, Usage

priced = Prices()


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("a-model-of-our-own", "openai"),
        ("gpt-4o", "a-provider-of-our-own"),
        ("a-model-of-our-own", None),
        ("test", "test"),
        ("function:model", "function"),
        ("", "openai"),
        (None, "openai"),
        (None, None),
        (["gpt-4o"], "openai"),
        ("gpt-4o", ["openai"]),
    ],
    ids=str,
)
def test_an_unknown_price_is_none(model: Any, provider: Any) -> None:
    """What the table does not know, or is no name at all, has no price: not even of no tokens."""
    used = Usage(input_tokens=10, output_tokens=1, requests=1)

    assert priced.cost(used, model=model, provider=provider) is None
    assert priced.cost(Usage(), model=model, provider=provider) is None
    assert priced.saved(used, model=model, provider=provider) is None


def test_a_table_that_cannot_be_read_prices_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates in a form of some later version are unknown prices, and do not raise."""
    _, model = get_snapshot().find_provider_model("gpt-4o", None, "openai", None)
    monkeypatch.setattr(model, "prices", "ask our sales department")

    assert Prices().cost(Usage(input_tokens=1), model="gpt-4o", provider="openai") is None


def test_no_tokens_cost_nothing_where_the_price_is_known() -> None:
    """Zero is a price when the model has one."""
    assert priced.cost(Usage(), model="gpt-4o", provider="openai") == 0.0


def test_a_request_that_was_not_seen_has_no_price() -> None:
    """No tokens seen of a request is no price of 0; a part of them seen has the part's price."""
    seen = Usage(input_tokens=1_000_000, requests=1, complete=False)

    assert priced.cost(UNSEEN, model="gpt-4o", provider="openai") is None
    assert priced.cost(seen, model="gpt-4o", provider="openai") == 2.5


def test_without_a_provider_the_models_name_decides() -> None:
    """No provider, or an empty one, takes the first that has a model of that name."""
    usage = Usage(input_tokens=1_000_000, requests=1)

    assert priced.cost(usage, model="gpt-4o") == 2.5
    assert priced.cost(usage, model="gpt-4o", provider="") == 2.5


def test_only_free_models_cost_nothing() -> None:
    """A listed model without rates is unknown, unless its name says that it is free."""
    used = Usage(input_tokens=10, output_tokens=1, requests=1)

    assert priced.cost(used, model="deepseek/deepseek-r1:free", provider="openrouter") == 0.0
    assert priced.cost(used, model="gpt-4.1", provider="github-copilot") is None


def test_tokens_without_a_rate_make_the_price_unknown() -> None:
    """An embedding model has no price for output, and a duration's model none for tokens."""
    embedded = Usage(input_tokens=10, requests=1)
    spoken = Usage(input_tokens=10, output_tokens=5, requests=1)

    assert priced.cost(embedded, model="text-embedding-3-small", provider="openai") == 2e-07
    assert priced.cost(spoken, model="text-embedding-3-small", provider="openai") is None
    assert priced.cost(spoken, model="gpt-live-1", provider="openai") is None


@pytest.mark.parametrize(
    "usage",
    [
        Usage(input_tokens=10, cache_read_tokens=11, requests=1),
        Usage(input_tokens=10, cache_read_tokens=6, cache_write_tokens=6, requests=1),
        Usage(input_tokens=10, output_tokens=1, reasoning_tokens=2, requests=1),
        MeteredUsage(
            input_tokens=10,
            cache_write_tokens=3,
            requests=1,
            extras={"cache_write_1h_tokens": 4},
        ),
        MeteredUsage(
            input_tokens=10,
            cache_read_tokens=11,
            requests=1,
            extras={"web_searches": 1},
        ),
    ],
    ids=["read", "read and write", "reasoning", "one hour", "read, beside a search"],
)
def test_counts_that_contradict_each_other_have_no_price(usage: Usage) -> None:
    """A part larger than its whole was counted by other rules: any price would be made up."""
    assert priced.cost(usage, model="claude-sonnet-4-5", provider="anthropic") is None


def test_the_settings_come_before_the_table() -> None:
    """A model in the settings has their rates, and only that model."""
    prices = Prices({"gpt-4o": {"input": 1, "cache_read": 0.1, "cache_write": 2.5, "output": 3}})
    usage = Usage(
        input_tokens=1000,
        cache_read_tokens=500,
        cache_write_tokens=100,
        output_tokens=10,
        requests=1,
    )

    assert prices.cost(usage, model="gpt-4o", provider="openai") == 0.00073
    assert prices.cost(usage, model="gpt-4o") == 0.00073
    assert prices.cost(usage, model="gpt-4", provider="openai") == priced.cost(
        usage, model="gpt-4", provider="openai"
    )


def test_the_settings_price_what_no_table_knows() -> None:
    """A model of one's own is priced by its name, under any provider."""
    prices = Prices({"ours": {"input": 0.1, "output": 0.2}})
    usage = Usage(input_tokens=3, cache_read_tokens=1, output_tokens=1, requests=1)

    assert prices.cost(usage, model="ours", provider="nobody") == 5e-07
    assert prices.cost(usage, model="ours") == 5e-07


def test_a_provider_can_be_named_in_the_settings() -> None:
    """`provider:model` prices that provider's model and leaves the others' alone."""
    prices = Prices({"azure:gpt-4o": {"input": 7, "output": 7}})
    usage = Usage(input_tokens=1_000_000, requests=1)

    assert prices.cost(usage, model="gpt-4o", provider="azure") == 7.0
    assert prices.cost(usage, model="gpt-4o", provider="openai") == 2.5


def test_a_missing_rate_in_the_settings() -> None:
    """Cached tokens fall back to the input's rate; tokens without any rate are unknown."""
    prices = Prices({"in": {"input": 2}, "none": {}})

    cached = Usage(input_tokens=5, cache_read_tokens=2, cache_write_tokens=3, requests=1)
    answered = Usage(input_tokens=5, output_tokens=1, requests=1)

    assert prices.cost(cached, model="in") == 1e-05
    assert prices.cost(answered, model="in") is None
    assert prices.cost(cached, model="none") is None


def test_a_price_of_zero_in_the_settings_is_known() -> None:
    """A model that is free of charge can be said to be."""
    prices = Prices({"local": {"input": 0, "output": 0}})

    assert prices.cost(Usage(input_tokens=5, output_tokens=5), model="local") == 0.0


@pytest.mark.parametrize(
    ("rates", "says"),
    [
        ({"inputs": 1}, 'prices."m": there is no rate "inputs"; use input, cache_read'),
        ({"input": -1}, 'prices."m".input must be USD per million tokens, 0 or more, not -1'),
        ({"output": "3"}, "prices.\"m\".output must be USD per million tokens, 0 or more, not '3'"),
        ({"output": True}, "not True"),
        ({"output": float("nan")}, "not nan"),
        ({"output": float("inf")}, "not inf"),
        ({"output": None}, "not None"),
    ],
    ids=str,
)
def test_a_wrong_rate_is_refused(rates: dict[str, object], says: str) -> None:
    """A rate that is no amount of USD is refused with the model, the rate and what to do."""
    with pytest.raises(ValueError, match=r"prices") as caught:
        Prices({"m": rates})

    assert says in str(caught.value)


def test_the_conventions_provider_names_are_understood() -> None:
    """`gen_ai.provider.name` values price like the names the table uses."""
    usage = Usage(input_tokens=1_000_000, requests=1)
    same = {
        "x_ai": ("x-ai", "grok-4"),
        "gcp.gen_ai": ("google", "gemini-2.5-pro"),
        "gcp.gemini": ("google", "gemini-2.5-pro"),
        "gcp.vertex_ai": ("google", "gemini-2.5-pro"),
        "google-gla": ("google", "gemini-2.5-pro"),
        "azure.ai.openai": ("azure", "gpt-4o"),
        "azure.ai.inference": ("azure", "gpt-4o"),
        "mistral_ai": ("mistral", "mistral-large-latest"),
        "moonshot_ai": ("moonshotai", "kimi-k2-0905-preview"),
        "aws.bedrock": ("aws", "amazon.nova-pro-v1:0"),
    }

    for theirs, (ours, model) in same.items():
        expected = priced.cost(usage, model=model, provider=ours)
        assert expected is not None
        assert priced.cost(usage, model=model, provider=theirs) == expected


def test_the_url_tells_resellers_apart() -> None:
    """A known base URL comes before the provider's name, and an unknown one is passed over."""
    usage = Usage(input_tokens=1_000_000, output_tokens=1_000_000, requests=1)
    model = "openai/gpt-oss-120b"

    groq = priced.cost(usage, model=model, provider="groq")
    told = priced.cost(usage, model=model, provider="openai", url="https://api.groq.com/openai/v1/")
    local = priced.cost(usage, model="gpt-4o", provider="openai", url="http://127.0.0.1:1/v1")

    assert groq is not None
    assert told == groq
    assert local == 12.5
    assert priced.cost(usage, model="gpt-4o", url="http://127.0.0.1:1/v1") is None


def test_what_the_cache_saved() -> None:
    """Reads save the difference to fresh input, and writes cost theirs."""
    read = Usage(input_tokens=1000, cache_read_tokens=1000, output_tokens=5, requests=1)
    written = Usage(input_tokens=1000, cache_write_tokens=1000, output_tokens=5, requests=1)
    searched = MeteredUsage(input_tokens=10, requests=1, extras={"web_searches": 3})

    def saved(usage: Usage) -> float | None:
        return priced.saved(usage, model="claude-sonnet-4-20250514", provider="anthropic")

    assert saved(read) == pytest.approx(0.0027, abs=1e-12)
    assert saved(written) == pytest.approx(-0.00075, abs=1e-12)
    assert saved(searched) == 0.0


def test_a_leak_of_model_names_is_bounded() -> None:
    """Names without end are not remembered without end, and prices stay right."""
    prices = Prices()
    usage = Usage(input_tokens=1_000_000, requests=1)

    for number in range(3000):
        assert prices.cost(usage, model=f"made-up-{number}", provider="openai") is None

    assert len(prices._plans) <= 1024
    assert prices.cost(usage, model="gpt-4o", provider="openai") == 2.5


def test_importing_usage_does_not_load_the_table() -> None:
    """The price table and pydantic are loaded by the first look-up, not by the import."""
    program = """
import sys
from otel_agents.usage import Prices, Usage, parse
prices = Prices({"ours": {"input": 1, "output": 1}})
parse({"usage": {"prompt_tokens": 1, "completion_tokens": 1}})
prices.cost(Usage(input_tokens=1), model="ours")
assert not {"genai_prices", "pydantic"} & set(sys.modules), "loaded early"
prices.warm()
assert "genai_prices.data" in sys.modules, "not warmed"
"""
    subprocess.run([sys.executable, "-c", program], check=True)  # noqa: S603 - our own program
