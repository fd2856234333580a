import subprocess
import sys
import textwrap

import pytest
import torch

from model.cpu_network import CpuNetwork
from model.network import AttentionVGG16


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "batch norm"])
def network(request):
    torch.manual_seed(5)
    network = AttentionVGG16(batch_norm=request.param).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as trained: statistics that do something
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_var.uniform_(0.5, 2.0)
            module.running_mean.normal_(std=0.3)
            torch.nn.init.uniform_(module.weight, 0.3, 0.7)
    return network


def test_it_answers_as_torch_does(network):
    slices = torch.randn(3, 3, 224, 224)
    with torch.inference_mode():
        expected = network(slices)
    for found, wanted in zip(CpuNetwork(network, 2)(slices), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-3)
        assert float(wanted.std()) > 0


def test_bfloat16_answers_nearly_as_torch_does(network):
    slices = torch.randn(3, 3, 224, 224)
    compiled = CpuNetwork(network, 2, bfloat16=True)
    if not compiled.bfloat16:
        pytest.skip("the processor has no instructions for bfloat16")
    with torch.inference_mode():
        expected = network(slices)
    for found, wanted in zip(compiled(slices), expected, strict=True):
        assert 0 < float((found - wanted).abs().max()) < 0.1 * float(wanted.abs().max())


def test_answers_are_kept_when_the_next_come(network):
    compiled = CpuNetwork(network, 1)
    first = compiled(torch.randn(1, 3, 224, 224))
    kept = first.a3.clone()
    compiled(torch.randn(1, 3, 224, 224))
    assert torch.equal(first.a3, kept)


def test_nothing_is_reported_to_anyone():
    program = """
        import socket, sys
        def refuse(*_): raise AssertionError("a connection was asked for")
        socket.socket.connect = socket.getaddrinfo = refuse
        import model.cpu_network, threading
        assert not [name for name in sys.modules if name.startswith("openvino_telemetry.")]
        print("quiet")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "quiet"


def test_a_signal_is_handled_after_networks_that_overlapped_are_gone():
    program = """
        import os, signal
        from model.cpu_network import CpuNetwork
        from model.network import AttentionVGG16
        signal.signal(signal.SIGTERM, lambda *_: print("handled", flush=True))
        network = AttentionVGG16(batch_norm=False).eval()
        first, second = CpuNetwork(network, 1), CpuNetwork(network, 1)
        del first
        del second
        os.kill(os.getpid(), signal.SIGTERM)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


def test_a_process_forked_from_one_that_graded_grades():
    program = """
        import os, signal, torch
        from model.cpu_network import CpuNetwork
        from model.network import AttentionVGG16
        network, slices = AttentionVGG16(batch_norm=False).eval(), torch.zeros(1, 3, 224, 224)
        compiled = CpuNetwork(network, 1)
        before = compiled(slices)
        if os.fork() == 0:
            signal.alarm(120)
            after = CpuNetwork(network, 1)(slices)
            os._exit(not torch.equal(before.logits, after.logits))
        assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
