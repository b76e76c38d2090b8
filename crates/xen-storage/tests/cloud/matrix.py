"""Runs the cases on the stores, and prints a table.

matrix.py INSTALLED OUTPUT LOAD KILLED OBJECT_CLOUD [NAMES]

INSTALLED has the stores' programs; OUTPUT gets the logs, figures.json and table.md; then three
programs follow. With NAMES only those cases and stores are tried.
"""

import json
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

from bench import BUCKET, Bench
from cases import CASES, Skip
from ceph import Ceph
from engines import Moto, SeaweedFS
from figures import rbd

ENGINES = [Moto, Ceph, SeaweedFS]


def case_name(case):
    return case.__name__.replace("_", " ")


def try_case(bench, case):
    """Returns the result of a case, and what is to be told of it."""
    began = time.monotonic()
    try:
        result, note = "ok", case(bench)
    except Skip as reason:
        result, note = "–", str(reason)
    except Exception as error:
        result, note = "FAILED", str(error)
        with open(bench.output / "failures.txt", "a") as file:
            file.write(f"{bench.engine.name}: {case_name(case)}\n{traceback.format_exc()}\n")
            for worker in bench.workers:
                file.write(f"  {worker.text}: {worker.lines[-20:]}\n")
    bench.clean()
    took = time.monotonic() - began
    print(f"{bench.engine.name:10} {case_name(case):18} {result:7} {took:6.1f} s  {note}", flush=True)
    return result, note


def try_engine(kind, cases, installed, output, programs):
    """Returns the results of all cases on a store, and its figures."""
    folder = Path(tempfile.mkdtemp(prefix=f"{kind.name}-", dir=output))
    engine = kind(folder, installed)
    load, killed, object_cloud = programs
    bench = Bench(engine, load, {"killed": killed, "object_cloud": object_cloud}, output)
    results = {}
    try:
        began = time.monotonic()
        engine.start()
        engine.make_bucket(BUCKET)
        print(f"{kind.name:10} up after {time.monotonic() - began:.1f} s", flush=True)
        for case in cases:
            results[case] = try_case(bench, case)
    except Exception as error:
        print(f"{kind.name:10} does not start: {error}", flush=True)
        traceback.print_exc()
        results = {case: results.get(case, ("FAILED", str(error))) for case in cases}
    finally:
        bench.clean()
        engine.stop()
    good = all(result != "FAILED" for result, _ in results.values())
    if good:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        print(f"{kind.name:10} logs: {engine.logs}", flush=True)
    return results, bench.figures


def table(results):
    """The results, a line for each case."""
    names = [kind.name for kind in ENGINES if kind in results]
    lines = [f"| case | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for case in CASES + [rbd]:
        found = [results[kind].get(case) for kind in ENGINES if kind in results]
        if not any(found):
            continue
        cells = [f"{one[0]}: {one[1]}" if one else "–" for one in found]
        cells = [cell.replace("–: ", "– ").replace("\n", " ")[:160] for cell in cells]
        lines.append(f"| {case_name(case)}: {case.__doc__} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main():
    installed, output, *programs = map(Path, sys.argv[1:6])
    names = sys.argv[6:]
    output.mkdir(parents=True, exist_ok=True)
    (output / "failures.txt").write_text("")
    cases = CASES + [rbd]
    chosen = [case for case in cases if case.__name__ in names] or cases
    kinds = [kind for kind in ENGINES if kind.name.lower() in names] or ENGINES
    began = time.monotonic()
    results, figures = {}, {}
    for kind in kinds:
        of_kind = [case for case in chosen if case is not rbd or kind is Ceph]
        results[kind], figures[kind.name] = try_engine(kind, of_kind, installed, output, programs)
    text = table(results)
    (output / "table.md").write_text(text)
    (output / "figures.json").write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
    print(f"\n{text}\n{json.dumps(figures, indent=1, ensure_ascii=False)}")
    all_results = [result for of in results.values() for result, _ in of.values()]
    count = {name: all_results.count(name) for name in ("ok", "FAILED", "–")}
    print(f"{time.monotonic() - began:.0f} s; {output}/failures.txt has the reasons of failures")
    print(f"{count['ok']} passed, {count['FAILED']} failed, {count['–']} skipped")
    return 1 if count["FAILED"] else 0


sys.exit(main())
