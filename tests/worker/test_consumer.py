from types import SimpleNamespace

import pytest
from kombu import Connection, Consumer, Message, Queue
from redis.exceptions import ConnectionError as BrokerLostError

from worker.running.embedded import embedded_redis_url
from worker.upkeep.consumer import _check_credit


@pytest.fixture
def broker(tmp_path):
    with embedded_redis_url(tmp_path / "data") as url, Connection(url) as connection:
        yield connection


def test_a_message_that_can_not_be_acknowledged_any_more_is_a_lost_broker(broker):
    """What kombu 5.7 leaves behind where Redis was away for an acknowledgement, to a solo worker."""
    taken: list[Message] = []
    with Consumer(broker, [Queue("cpu")], on_message=taken.append, prefetch_count=1) as consumer:
        parent = SimpleNamespace(task_consumer=consumer)
        _check_credit(parent)
        with broker.Producer() as producer:
            producer.publish(1, routing_key="cpu")
        broker.drain_events(timeout=10)
        with pytest.raises(BrokerLostError):
            _check_credit(parent)
        taken[0].ack()
        _check_credit(parent)
