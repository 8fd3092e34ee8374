"""llama.cpp's server out of the xllamacpp package, as a process: ``FILE PORT [--flash-attention] [--no-repack]``."""

from __future__ import annotations

import argparse
import signal

import xllamacpp

from tests.bench.contenders import CONTEXT, SLOTS, THREADS


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("port", type=int)
    parser.add_argument("--flash-attention", action="store_true")
    parser.add_argument("--no-repack", action="store_true")
    options = parser.parse_args()

    params = xllamacpp.CommonParams()
    params.model.path = options.file
    params.hostnames = ["127.0.0.1"]
    params.port = options.port
    params.cpuparams.n_threads = THREADS
    params.cpuparams_batch.n_threads = THREADS
    params.n_parallel = SLOTS
    params.n_ctx = CONTEXT * 4
    params.kv_unified = True
    params.no_extra_bufts = options.no_repack
    kinds = xllamacpp.llama_flash_attn_type
    params.flash_attn_type = (
        kinds.LLAMA_FLASH_ATTN_TYPE_ENABLED if options.flash_attention else kinds.LLAMA_FLASH_ATTN_TYPE_DISABLED
    )
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)  # noqa: T201
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
