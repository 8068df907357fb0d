"""The real photos: products stay together, and so do the twelve rows that share four images."""

from pathlib import Path

import pytest

from phisight.data.build.build_dataset import build
from phisight.data.build.plan.config import BuildOptions
from phisight.data.build.plan.groups import GroupRule
from phisight.data.dataset.folder import DatasetFolder
from phisight.data.dataset.inspect import describe
from phisight.data.dataset.leakage import find_leaks

PRODUCTS = Path(__file__).parents[4] / "shared" / "data" / "products" / "products.csv"
RULE = GroupRule(patterns=(r"^([MW][A-Z]+[0-9]+)-", r"^(24-WG08)[1-3]-", r"^(24-WG08)[5-7]$"))


@pytest.mark.slow
@pytest.mark.skipif(not PRODUCTS.is_file(), reason="the real photos are not beside the repository")
def test_products_and_shared_images_stay_in_one_split(tmp_path: Path) -> None:
    result = build(str(PRODUCTS), tmp_path / "ds", BuildOptions(group=RULE, processes=1))
    assert (result.read, result.kept) == (344, 344)
    assert not [finding for finding in result.findings if finding.kind == "image_damaged"]
    data = DatasetFolder.open(tmp_path / "ds")
    groups = {row["product_code"]: row["group"] for row in data.rows()}
    balls = {groups[code] for code in groups if code.startswith(("24-WG081", "24-WG082", "24-WG083"))}
    straps = {groups[code] for code in ("24-WG085", "24-WG086", "24-WG087")}
    assert len(balls) == len(straps) == 1
    assert balls != straps
    by_product: dict[str, set[str]] = {}
    for row in data.rows():
        code = row["product_code"]
        by_product.setdefault(code.split("-")[0] if code[0] in "MW" else code, set()).add(row["split"])
    assert all(len(splits) == 1 for splits in by_product.values())
    assert find_leaks(data) == []
    assert describe(data).same_images == 12
    plain = build(str(PRODUCTS), tmp_path / "plain", BuildOptions(processes=1))
    twelve = [row for row in DatasetFolder.open(plain.folder).rows() if row["product_code"][:6] == "24-WG0"]
    by_image: dict[str, set[str]] = {}
    for row in twelve:
        by_image.setdefault(row["image_sha256"], set()).add(row["group"])
    assert all(len(found) == 1 for found in by_image.values()), "shared images are grouped without a rule too"
