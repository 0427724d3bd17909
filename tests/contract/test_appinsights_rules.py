"""The shipped contract suite over Application Insights, by both client libraries."""

from typing import ClassVar

import pytest
from appinsights_credential import OF_OPENCENSUS
from appinsights_service import Service

import mlobs
from mlobs.testing import BackendContract


@pytest.fixture(scope="module")
def service():
    serving = Service()
    yield serving
    serving.stop()


pytestmark = pytest.mark.slow


class AppInsightsRules(BackendContract):
    """Both transports keep the same rules; what they delivered is read through azure-monitor-query."""

    transport: ClassVar[str]

    @pytest.fixture
    def backend(self, service):
        return mlobs.backends.AppInsights(
            service.connection_string,
            self.transport,
            workspace_id="w",
            query_endpoint=service.endpoint,
            query_credential="appinsights_credential:make",
        )

    @pytest.fixture
    def unreachable(self):
        key = "11111111-2222-3333-4444-555555555555"
        return mlobs.backends.AppInsights(
            f"InstrumentationKey={key};IngestionEndpoint=http://127.0.0.1:9", self.transport
        )


@pytest.mark.filterwarnings(*OF_OPENCENSUS)
class TestAppInsightsByOpenCensus(AppInsightsRules):
    transport = "opencensus"


class TestAppInsightsByAzureMonitor(AppInsightsRules):
    transport = "azure-monitor"
