"""Layer 4: run folders -> one page that a product manager understands. No torch, no network.

path = write_report([run])                  RUN/report.html
path = write_report([run, other], out=...)  several runs side by side
values = report_json([run])                 the same for programs
path = write_pdf(path)                      printed by Chromium, where it is installed
"""

from phisight.report.page import report_json, write_report
from phisight.report.pdf import write_pdf

__all__ = ["report_json", "write_pdf", "write_report"]
