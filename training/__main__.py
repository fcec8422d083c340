"""Command line: python -m training NAME [--minutes M] [--seed S] [--device auto|cpu|cuda] [--steps N]."""
import argparse
import os

import torch


def main():
    parser = argparse.ArgumentParser(prog="python -m training")
    parser.add_argument("name")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--export-only", action="store_true")
    parser.add_argument("--runs", default=os.environ.get("TOKENSCOPE_RUNS", "../runs"))
    args = parser.parse_args()
    from training.recipes.text_ar import TextAR
    from training.trainer import Trainer

    torch.set_num_threads(2)
    recipe = TextAR(args.seed)
    recipe.prepare(args.runs)
    Trainer(recipe, args.minutes, args.steps, "cpu", args.runs, lambda s: print(s, flush=True)).run()


if __name__ == "__main__":
    main()
