"""Command line: python -m training NAME [--minutes M] [--steps N] [--seed S] [--device cpu] [--export-only],
or python -m training --queue FILE_OR_NAMES [--lanes 2]."""
import argparse
import json
import os
import sys

import torch

from training import queue
from training.catalog import names, recipe
from training.trainer import Trainer


def main():
    parser = argparse.ArgumentParser(prog="python -m training", description="Train one shipped checkpoint.")
    parser.add_argument("name", nargs="?", choices=names())
    parser.add_argument("--queue", help="a file with one run a line, or names with commas between them")
    parser.add_argument("--lanes", type=int, default=2, help="runs of a queue at the same time, one thread each")
    parser.add_argument("--threads", type=int, help="torch threads; without it as many as other programs leave")
    parser.add_argument("--minutes", type=float, help="wall-clock budget; the learning rate reaches zero at its end")
    parser.add_argument("--steps", type=int, help="budget in steps instead of minutes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--export-only", action="store_true", help="write the checkpoint from the saved state as it is")
    parser.add_argument("--warm", action="store_true", help="go on from the shipped weights, with a new schedule")
    parser.add_argument("--no-export", action="store_true")
    runs = os.environ.get("TOKENSCOPE_RUNS", "../runs")
    parser.add_argument("--runs", default=runs, help="folder of resumable state")
    args = parser.parse_args()
    if args.queue:
        return queue.main(args.queue, args.lanes, args.runs)
    if not args.name:
        parser.error("say which checkpoint to train, or --queue")
    device = args.device if args.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    made = recipe(args.name)(args.seed)
    made.prepare(args.runs)
    def say(line):
        print(line, flush=True)

    trainer = Trainer(made, args.minutes, args.steps, device, args.runs, say, args.warm, args.threads)
    model = trainer.final() if args.export_only else trainer.run()
    if not args.no_export:
        from training.export import export

        print(json.dumps(export(trainer, model.cpu()), indent=2))


if __name__ == "__main__":
    sys.exit(main())
