"""Print the code block that follows the line ``<!-- test command -->`` of a Markdown file."""

import re
import sys
from pathlib import Path

text = Path(sys.argv[1]).read_text(encoding="utf-8")
block = re.search(r"<!-- test command -->\s*```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
if block is None:
    sys.exit(f"{sys.argv[1]} has no code block after the line <!-- test command -->")
print(block.group(1), end="")
