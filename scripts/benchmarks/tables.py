"""The parts that the tables of the subcommands share, as Markdown."""


def cells(times, ratio, spec=",.0f"):
    """Return "median | quartiles | best | ratio | its quartiles" of two summaries, times as `spec` has it."""
    spread = " - ".join(format(quartile, spec) for quartile in times["quartiles"])
    ratios = " - ".join(f"{quartile:.2f}" for quartile in ratio["quartiles"])
    return f"{times['median']:{spec}} | {spread} | {times['best']:{spec}} | {ratio['median']:.2f} | {ratios}"


def bars(found):
    """Return the lines that say which bars are met; none where there are none."""
    lines = ["", "| xpnet / | measured | bar | |", "|---|--:|--:|---|"] if found else []
    for bar in found:
        verdict = "met" if bar["met"] else "missed"
        lines.append(f"| {bar['peer']} | {bar['ratio']:.2f} | <= {bar['bar']:.2f} | {verdict} |")
    return lines
