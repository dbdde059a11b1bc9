"""pydantic-ai's models with the providers' real clients, pointed at a `ProviderServer`.

Each call makes a provider, and so an HTTP client, of its own. Enter the agent (`async with
agent:`) to have it closed at the end.
"""

from collections.abc import Callable

from pydantic_ai.models import Model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.google import GoogleProvider
from pydantic_ai.providers.openai import OpenAIProvider

from .server import ProviderServer, Route

API_KEY = "sk-local"


def openai_model(server: ProviderServer, name: str = "gpt-4o") -> OpenAIChatModel:
    """Make a model of OpenAI's chat completions (route `chat`)."""
    provider = OpenAIProvider(base_url=f"{server.url}/v1", api_key=API_KEY)
    return OpenAIChatModel(name, provider=provider)


def openai_responses_model(server: ProviderServer, name: str = "gpt-5") -> OpenAIResponsesModel:
    """Make a model of OpenAI's responses (route `responses`)."""
    provider = OpenAIProvider(base_url=f"{server.url}/v1", api_key=API_KEY)
    return OpenAIResponsesModel(name, provider=provider)


def anthropic_model(server: ProviderServer, name: str = "claude-sonnet-5") -> AnthropicModel:
    """Make a model of Anthropic's messages (route `messages`)."""
    provider = AnthropicProvider(base_url=server.url, api_key=API_KEY)
    return AnthropicModel(name, provider=provider)


def gemini_model(server: ProviderServer, name: str = "gemini-2.5-pro") -> GoogleModel:
    """Make a model of the Gemini API (route `gemini`)."""
    provider = GoogleProvider(base_url=server.url, api_key=API_KEY)
    return GoogleModel(name, provider=provider)


MODELS: dict[Route, Callable[[ProviderServer], Model]] = {
    "chat": openai_model,
    "responses": openai_responses_model,
    "messages": anthropic_model,
    "gemini": gemini_model,
}
"""The makers by the route their models call."""
