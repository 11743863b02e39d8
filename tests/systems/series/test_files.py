"""Strangers' files: each holds the right value on its right day, or is refused by the name of its fault.

They are written as Excel does in German, English and Chinese, SAP, R, pandas, Nixtla and meters do."""

import gzip
import re
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from inkwash.errors import UserError
from inkwash.systems.series.data import read_series

DAYS = pd.date_range("2024-01-25", periods=20)  # into another month
HOURS = pd.date_range("2024-01-01", periods=48, freq="h")


class Kind(NamedTuple):
    """A file, and one cell of it: its series, its time, its value."""

    content: str | bytes
    series: str
    time: str
    value: float
    freq: str = "D"
    note: str = ""
    options: Any = None
    name: str = "data.csv"


def rows(dates, values, heading="date,sales", sign=","):
    """A line for each."""
    return "\n".join([heading, *(f"{date}{sign}{value}" for date, value in zip(dates, values, strict=True))]) + "\n"


def written(form, dates=DAYS):
    return dates.strftime(form).tolist()


def counted(form="{}", count=20):
    """1, 2, 3..."""
    return [form.format(k + 1) for k in range(count)]


def german(number, places=2):
    """1.234,50"""
    return f"{number:,.{places}f}".translate(str.maketrans(",.", ".,"))


AMOUNTS = [1234.5 + 1000 * k for k in range(20)]
SAP = "\n".join(
    [
        "-" * 30,
        "|Datum     |         Menge|",
        "-" * 30,
        *(
            f"|{day}|{german(v):>13}{'-' if k == 1 else ' '}|"
            for k, (day, v) in enumerate(zip(written("%d.%m.%Y"), AMOUNTS, strict=True))
        ),
        "-" * 30,
    ]
)
MONTHS = pd.date_range("2023-11-01", periods=14, freq="MS")
FRENCH = re.split(" ", "janvier février mars avril mai juin juillet août septembre octobre novembre décembre")
SPANISH = re.split(" ", "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre")
GERMAN = re.split(" ", "Januar Februar März April Mai Juni Juli August September Oktober November Dezember")
OFFSETS = pd.date_range("2024-03-29", periods=96, freq="h", tz="Europe/Berlin")
MIDNIGHTS = pd.date_range("2024-03-25", periods=14, freq="D", tz="Europe/Berlin")
AUTUMN = pd.date_range("2024-10-25", periods=120, freq="h", tz="Europe/Berlin")
ISO_TZ = "%Y-%m-%dT%H:%M:%S%z"

KINDS = {
    # dates
    "day first, dots": Kind(rows(written("%d.%m.%Y"), counted()), "sales", "2024-02-03", 10, note="(dd.mm.yyyy)"),
    "day first, slashes": Kind(rows(written("%d/%m/%Y"), counted()), "sales", "2024-02-03", 10, note="(dd/mm/yyyy)"),
    "month first": Kind(rows(written("%m/%d/%Y"), counted()), "sales", "2024-02-03", 10, note="(mm/dd/yyyy)"),
    "day first, no zeros": Kind(
        rows([f"{d.day}.{d.month}.{d.year}" for d in DAYS], counted()), "sales", "2024-02-03", 10
    ),
    "two digits for the year": Kind(
        rows(written("%d.%m.%y"), counted()), "sales", "2024-02-03", 10, note="(dd.mm.yy)"
    ),
    "two digits, year first": Kind(
        rows(written("%y-%m-%d"), counted()), "sales", "2024-02-03", 10, note="(yy-mm-dd)"
    ),
    "with times": Kind(
        rows(written("%d.%m.%Y %H:%M", HOURS), counted(count=48)), "sales", "2024-01-02 03:00", 28, "h"
    ),
    "with times as browsers write them": Kind(
        rows(written('"%d.%m.%Y, %H:%M:%S"', HOURS), counted(count=48)), "sales", "2024-01-02 03:00", 28, "h"
    ),
    "ambiguous, said to be day first": Kind(
        rows(["01/02/2024", "02/02/2024", "03/02/2024"], [5, 6, 7]),
        "sales",
        "2024-02-02",
        6,
        options={"dates": "dmy"},
    ),
    "ambiguous, said to be month first": Kind(
        rows(["01/02/2024", "02/02/2024", "03/02/2024"], [5, 6, 7]),
        "sales",
        "2024-02-02",
        6,
        "D",
        options={"dates": "mdy", "freq": "D"},
    ),
    "order in time, with gaps": Kind(
        rows([f"{d:%d/%m/%y}" for d in DAYS.delete([3])], counted(count=19)), "sales", "2024-02-03", 9
    ),
    "German months": Kind(
        rows([f"{d.day}. {GERMAN[d.month - 1]} {d.year}" for d in DAYS], counted()), "sales", "2024-02-03", 10
    ),
    "French months": Kind(
        rows([f"{FRENCH[d.month - 1]} {d.year}" for d in MONTHS], counted(count=14)), "sales", "2024-02-01", 4, "MS"
    ),
    "Spanish months": Kind(
        rows([f"{d.day} de {SPANISH[d.month - 1]} de {d.year}" for d in DAYS], counted()), "sales", "2024-02-03", 10
    ),
    "Excel's short months": Kind(rows(written("%b-%y", MONTHS), counted(count=14)), "sales", "2024-02-01", 4, "MS"),
    "SAS and Oracle": Kind(rows([f"{d:%d-%b-%Y}".upper() for d in DAYS], counted()), "sales", "2024-02-03", 10),
    "Chinese dates": Kind(
        rows([f"{d.year}年{d.month}月{d.day}日" for d in DAYS], counted(), "日期,销量"), "销量", "2024-02-03", 10
    ),
    "Chinese quarters": Kind(
        rows(["2023年第三季度", "2023年第四季度", "2024年第一季度", "2024年第二季度"], [1, 2, 3, 4], "季度,销量"),
        "销量",
        "2024-01-01",
        3,
        "QS-OCT",
    ),
    "ISO weeks": Kind(rows([f"2015-W{k:02}" for k in range(1, 21)], counted()), "sales", "2015-01-12", 3, "W-MON"),
    "ISO weeks, short": Kind(
        rows([f"2015W{k:02}" for k in range(1, 21)], counted()), "sales", "2015-01-12", 3, "W-MON"
    ),
    # numbers that are times
    "20240125": Kind(rows(written("%Y%m%d"), counted()), "sales", "2024-02-03", 10),
    "202401": Kind(rows(written("%Y%m", MONTHS), counted(count=14)), "sales", "2024-02-01", 4, "MS"),
    "years": Kind(rows(range(1990, 2010), counted(), "Jahr,sales"), "sales", "1995-01-01", 6, "YS-JAN"),
    "seconds since 1970": Kind(
        rows([1704067200 + 3600 * k for k in range(48)], counted(count=48), "timestamp,sales"),
        "sales",
        "2024-01-02 03:00Z",
        28,
        "h",
        note="s since 1970",
    ),
    "milliseconds since 1970": Kind(
        rows([1704067200000 + 3600000 * k for k in range(48)], counted(count=48), "ts,sales"),
        "sales",
        "2024-01-02 03:00Z",
        28,
        "h",
        note="ms since 1970",
    ),
    "days of a spreadsheet": Kind(rows(range(45316, 45336), counted()), "sales", "2024-02-03", 10),
    "year and month": Kind(
        rows(written("%Y,%m", MONTHS), counted(count=14), "year,month,sales"),
        "sales",
        "2024-02-01",
        4,
        "MS",
        note="time = year, month",
    ),
    "year and month by name": Kind(
        rows(written("%Y,%b", MONTHS), counted(count=14), "Year,Month,sales"), "sales", "2024-02-01", 4, "MS"
    ),
    "year and quarter": Kind(
        rows(["2023,3", "2023,4", "2024,1", "2024,2"], [1, 2, 3, 4], "year,quarter,sales"),
        "sales",
        "2024-01-01",
        3,
        "QS-OCT",
    ),
    "year, month, day, hour": Kind(
        rows([f"{d.year},{d.month},{d.day},{d.hour}" for d in HOURS], counted(count=48), "year,month,day,hour,sales"),
        "sales",
        "2024-01-02 03:00",
        28,
        "h",
    ),
    "date and time": Kind(
        rows(written("%d/%m/%Y;%H:%M:%S", HOURS + pd.Timedelta(days=30)), counted(count=48), "Date;Time;sales", ";"),
        "sales",
        "2024-02-01 03:00",
        28,
        "h",
        note="time = Date, Time",
    ),
    "date and hour": Kind(
        rows([f"{d:%Y-%m-%d},{d.hour}" for d in HOURS], counted(count=48), "date,hour,sales"),
        "sales",
        "2024-01-02 03:00",
        28,
        "h",
        note="time = date, hour",
    ),
    # zones
    "UTC": Kind(
        rows(written("%Y-%m-%dT%H:%M:%SZ", HOURS), counted(count=48)),
        "sales",
        "2024-01-02 03:00Z",
        28,
        "h",
        note="UTC",
    ),
    "one offset": Kind(
        rows(written("%Y-%m-%d %H:%M:%S+08:00", HOURS), counted(count=48)),
        "sales",
        "2024-01-02 03:00+08:00",
        28,
        "h",
        note="UTC+08:00",
    ),
    "offsets of a summer time": Kind(
        rows(written(ISO_TZ, OFFSETS), counted(count=96)),
        "sales",
        "2024-03-31 03:00+02:00",
        51,
        "h",
        note="Europe/Berlin",
    ),
    "local midnights": Kind(
        rows(written(ISO_TZ, MIDNIGHTS), counted(count=14)), "sales", "2024-04-01 00:00+02:00", 8, "D"
    ),
    "an hour twice in autumn": Kind(
        rows(written("%Y-%m-%d %H:%M", AUTUMN), counted(count=120)),
        "sales",
        "2024-10-27 02:00+01:00",
        52,
        "h",
        note="Europe/Berlin, as its summer time shows",
    ),
    "an hour that spring leaves out": Kind(
        rows(written("%d.%m.%Y %H:%M", OFFSETS), counted(count=96)), "sales", "2024-03-31 03:00+02:00", 51, "h"
    ),
    # dates across, and what only looks like other dates or numbers
    "World Bank, years across": Kind(
        '"Country Name","Country Code",'
        + ",".join(f'"{year}"' for year in range(1990, 2010))
        + ",\n"
        + "".join(
            f'"{c}","{c[:3]}",' + ",".join(f'"{s + k}.5"' for k in range(20)) + ",\n"
            for s, c in enumerate(["Aruba", "Chile"])
        ),
        "Chile",
        "1995-01-01",
        6.5,
        "YS-JAN",
        note="value by Country Name",
    ),
    "Johns Hopkins, days across": Kind(
        "Province/State,Country/Region,Lat,"
        + ",".join(f"{d.month}/{d.day}/{d:%y}" for d in DAYS)
        + "\n"
        + ",Chile,-35.6,"
        + ",".join(counted())
        + "\nHubei,China,30.9,"
        + ",".join(counted("{}0"))
        + "\n",
        "Hubei",
        "2024-02-03",
        100,
    ),
    "Eurostat, months across": Kind(
        "freq,unit,geo\\TIME_PERIOD\t2023-11 \t2023-12 \t2024-01 \t2024-02 \n"
        "M,PC,AT\t4.9 \t5.1 p\t: \t5.2 b\nM,PC,BE\t5.9 \t: c\t6.1 \t6.2 bp\n",
        "M,PC,BE",
        "2024-02-01",
        6.2,
        "MS",
        note="2 gaps",
        name="une.tsv",
    ),
    "China's statistics office, months across and back": Kind(
        (
            "指标,"
            + ",".join(f"{d.year}年{d.month}月" for d in MONTHS[::-1])
            + "\n工业,"
            + ",".join(counted("{}0", 14))
            + "\n价格,"
            + ",".join(counted(count=14))
            + "\n"
        ).encode("gbk"),
        "价格",
        "2024-02-01",
        11,
        "MS",
        note="in GB18030",
    ),
    "dates across in a workbook's way": Kind(
        rows(["A", "B"], [",".join(counted()), ",".join(counted("{}0"))], "Artikel," + ",".join(map(str, DAYS))),
        "B",
        "2024-02-03",
        100,
    ),
    "a name that tells nothing, 20240125": Kind(
        rows(written("%Y%m%d"), counted(), "Kalendertag,sales"), "sales", "2024-02-03", 10, note="time = Kalendertag"
    ),
    "a name that tells nothing, milliseconds": Kind(
        rows([1704067200000 + 3600000 * k for k in range(48)], counted(count=48), "open_at,sales"),
        "sales",
        "2024-01-02 03:00Z",
        28,
        "h",
    ),
    "weeks as 201901": Kind(
        rows([f"2019{k:02}" for k in range(1, 13)], counted(count=12), "week,sales"),
        "sales",
        "2019-01-14",
        3,
        "W-MON",
    ),
    "weeks as 2019/1": Kind(
        rows([f"2019/{k}" for k in range(1, 21)], counted(), "Year Week,sales"), "sales", "2019-01-14", 3, "W-MON"
    ),
    "weeks as KW 01/2019": Kind(
        rows([f"KW {k:02}/2019" for k in range(1, 13)], counted(count=12), "KW,sales"),
        "sales",
        "2019-01-14",
        3,
        "W-MON",
    ),
    "quarters as 20191": Kind(
        rows([f"{y}{q}" for y in range(2015, 2020) for q in range(1, 5)], counted(), "quarter,sales"),
        "sales",
        "2015-07-01",
        3,
        "QS-OCT",
    ),
    "quarters as 2019.1": Kind(
        rows([f"{y}.{q}" for y in range(2015, 2020) for q in range(1, 5)], counted(), "quarter,sales"),
        "sales",
        "2015-07-01",
        3,
        "QS-OCT",
    ),
    "years as pandas writes them where one was missing": Kind(
        rows([f"{y}.0" for y in range(1990, 2010)], counted(), "year,sales"), "sales", "1995-01-01", 6, "YS-JAN"
    ),
    "hours as 2024012503": Kind(
        rows(written("%Y%m%d%H", HOURS), counted(count=48), "MESS_DATUM,TT"), "TT", "2024-01-02 03:00", 28, "h"
    ),
    "year, month, day, hour, short": Kind(
        rows(written("%Y,%m,%d,%H", HOURS), counted(count=48), "YEAR,MO,DY,HR,T2M"),
        "T2M",
        "2024-01-02 03:00",
        28,
        "h",
    ),
    "times with points": Kind(
        rows(written("%d.%m.%Y;%H.%M.%S", HOURS), counted("{},5", 48), "Datum;Zeit;T", ";"),
        "T",
        "2024-01-02 03:00",
        28.5,
        "h",
    ),
    "hours and minutes with a point": Kind(
        rows(written("%d.%m.%Y;%H.%M", HOURS), counted("{},5", 48), "Datum;Zeit;T", ";"),
        "T",
        "2024-01-02 03:00",
        28.5,
        "h",
    ),
    "the day of the export": Kind(
        rows(
            ["2024-05-01"] * 20,
            map(",".join, zip(written("%Y-%m-%d"), counted(), strict=True)),
            "export_date,date,sales",
        ),
        "sales",
        "2024-02-03",
        10,
    ),
    "a value and its flag": Kind(
        rows(written("%Y-%m-%d"), [f'"+0{100 + k},1",{k}' for k in range(20)], "date,TMP,sales"),
        "sales",
        "2024-02-03",
        9,
        note="left out TMP (texts)",
    ),
    "plus and minus behind": Kind(
        rows(written("%d.%m.%Y"), [f"{german(v)}{'+-'[k % 2]}" for k, v in enumerate(AMOUNTS)], "Datum;Betrag", ";"),
        "Betrag",
        "2024-02-03",
        -10234.5,
    ),
    "a column without any value": Kind(
        rows(written("%Y-%m-%d"), counted("{},N/A"), "date,USD,CYP"),
        "USD",
        "2024-02-03",
        10,
        note="left out CYP (no values)",
    ),
    "a covariate of numbered shops": Kind(
        "store,date,sales,promo\n"
        + "".join(f"{s},{d},{100 * s + k},{k % 3}\n" for s in (1, 2, 3) for k, d in enumerate(written("%Y-%m-%d"))),
        "2",
        "2024-02-03",
        209,
        options={"target": ["sales"], "feat_dynamic_real": ["promo"]},
    ),
    # signs and encodings
    "German Excel": Kind(
        rows(written("%d.%m.%Y"), map(german, AMOUNTS), "Datum;Umsätze", ";").replace("\n", "\r\n").encode("cp1252"),
        "Umsätze",
        "2024-02-03",
        10234.5,
        note="decimal comma",
    ),
    "German Excel, UTF-8": Kind(
        rows(written("%d.%m.%Y"), map(german, AMOUNTS), "Datum;Umsätze", ";").encode("utf-8-sig"),
        "Umsätze",
        "2024-02-03",
        10234.5,
    ),
    "German Excel, currency": Kind(
        rows(written("%d.%m.%Y"), [f"{german(v)} €" for v in AMOUNTS], "Datum;Umsatz", ";").encode("cp1252"),
        "Umsatz",
        "2024-02-03",
        10234.5,
        note="Umsatz in €",
    ),
    "Excel's Unicode text": Kind(
        rows(written("%d.%m.%Y"), map(german, AMOUNTS), "Datum\tUmsätze", "\t").encode("utf-16"),
        "Umsätze",
        "2024-02-03",
        10234.5,
        name="data.txt",
    ),
    "English Excel": Kind(
        rows(written("%m/%d/%Y"), [f'"${v:,.2f} "' for v in AMOUNTS], "Date,Net sales"),
        "Net sales",
        "2024-02-03",
        10234.5,
        note="decimal point",
    ),
    "English Excel, losses in brackets": Kind(
        rows(written("%m/%d/%Y"), [f'"({v:,.2f})"' for v in AMOUNTS], "Date,Profit"), "Profit", "2024-02-03", -10234.5
    ),
    "Chinese Excel": Kind(
        rows(written("%Y/%m/%d"), [f'"￥{v:,.2f}"' for v in AMOUNTS], "日期,销售额").encode("gbk"),
        "销售额",
        "2024-02-03",
        10234.5,
    ),
    "Excel says its sign": Kind(
        "sep=;\r\n" + rows(written("%d.%m.%Y"), map(german, AMOUNTS), "Datum;a", ";"), "a", "2024-02-03", 10234.5
    ),
    "French": Kind(
        rows(
            written("%d/%m/%Y"),
            [f"{v:,.2f}".replace(",", "\u202f").replace(".", ",") for v in AMOUNTS],
            "Date;Ventes",
            ";",
        ),
        "Ventes",
        "2024-02-03",
        10234.5,
    ),
    "Swiss": Kind(
        rows(written("%d.%m.%Y"), [f"{v:,.2f}".replace(",", "'") for v in AMOUNTS], "Datum;Umsatz", ";"),
        "Umsatz",
        "2024-02-03",
        10234.5,
    ),
    "thousands alone, said to be so": Kind(
        rows(written("%d.%m.%Y"), [german(v, 0) for v in range(5000, 25000, 1000)], "Datum;Stück", ";"),
        "Stück",
        "2024-02-03",
        14000,
        options={"decimal": ","},
    ),
    "thousands alone, in millions": Kind(
        rows(written("%Y-%m-%d"), [f'"{v:,}"' for v in range(995_000, 1_015_000, 1000)]),
        "sales",
        "2024-02-03",
        1_004_000,
    ),
    "per cent": Kind(
        rows(written("%d.%m.%Y"), [f"{german(k / 2, 1)} %" for k in range(20)], "Datum;Quote", ";"),
        "Quote",
        "2024-02-03",
        4.5,
        note="Quote in %",
    ),
    "emptied columns": Kind(
        "Datum;Umsatz;;\r\n"
        + "".join(f"{d};{v};;\r\n" for d, v in zip(written("%d.%m.%Y"), counted("{},5"), strict=True)),
        "Umsatz",
        "2024-02-03",
        10.5,
    ),
    "an SAP list": Kind(SAP, "Menge", "2024-02-03", 10234.5, name="list.txt"),
    "an SAP list, minus behind": Kind(SAP, "Menge", "2024-01-26", -2234.5, name="list.txt"),
    "bars": Kind(rows(written("%d.%m.%Y"), map(german, AMOUNTS), "Datum|Menge", "|"), "Menge", "2024-02-03", 10234.5),
    "R, row names": Kind(
        rows(
            [f'"{k}","{d}"' for k, d in enumerate(written("%Y-%m-%d"), 1)],
            ["NA", *counted(count=19)],
            '"","date","sales"',
        ),
        "sales",
        "2024-02-03",
        9,
        note="1 gap (marked 'NA' 1); left out index (row numbers)",
    ),
    "R, row names of a part": Kind(
        rows([f'"{k}","{d}"' for k, d in enumerate(written("%Y-%m-%d"), 1001)], counted(), '"","date","sales"'),
        "sales",
        "2024-02-03",
        10,
        note="left out index (row numbers)",
    ),
    "R, midnight without its hour": Kind(
        rows([f"{d:%Y-%m-%d %H:%M:%S}".removesuffix(" 00:00:00") for d in HOURS], counted(count=48)),
        "sales",
        "2024-01-02 00:00",
        25,
        "h",
    ),
    "R, tabs and quotes": Kind(
        rows([f'"{d}"' for d in written("%Y-%m-%d")], counted(), '"date"\t"sales"', "\t"),
        "sales",
        "2024-02-03",
        10,
        name="r.tsv",
    ),
    "gzipped": Kind(
        gzip.compress(rows(written("%Y-%m-%d"), counted()).encode()), "sales", "2024-02-03", 10, name="data.csv.gz"
    ),
    "marks of missing values": Kind(
        rows(written("%Y-%m-%d"), ["-", "n/a", "..", "NaN", "#N/A", "k.A.", *counted(count=14)]),
        "sales",
        "2024-02-03",
        4,
        note="6 gaps",
    ),
    # ids
    "an id": Kind(
        rows([f"{k},{d}" for k, d in enumerate(written("%Y-%m-%d"), 7)], counted(), "id,date,sales"),
        "sales",
        "2024-02-03",
        10,
        note="left out id (row numbers)",
    ),
    "a number of a customer": Kind(
        rows(written("%Y-%m-%d"), [f"4711,{k}" for k in range(20)], "date,customer_id,sales"),
        "sales",
        "2024-02-03",
        9,
        note="left out customer_id (ids)",
    ),
    "parts of the date": Kind(
        rows(
            [f"{d:%Y-%m-%d},{d.year},{d.month},{d.dayofweek}" for d in DAYS],
            counted(),
            "date,year,month,weekday,sales",
        ),
        "sales",
        "2024-02-03",
        10,
        note="left out year (part of a date), month (part of a date), weekday (part of a date)",
    ),
    "numbered shops": Kind(
        "store,date,sales\n"
        + "".join(f"{s},{d},{100 * s + k}\n" for s in (1, 2, 3) for k, d in enumerate(written("%Y-%m-%d"))),
        "2",
        "2024-02-03",
        209,
    ),
    "shops and products": Kind(
        "date,store,product,sales\n"
        + "".join(
            f"{d},{s},{p},{k * len(p + s)}\n"
            for k, d in enumerate(written("%Y-%m-%d"))
            for s in ("N", "SO")
            for p in ("tea", "cocoa")
        ),
        "SO / tea",
        "2024-02-03",
        45,
    ),
    "numbered shops and items": Kind(
        "date,store,item,sales\n"
        + "".join(
            f"{d},{s},{i},{(7 * k * s * i + s) % 101}\n"
            for s in (1, 2)
            for i in (1, 2, 3)
            for k, d in enumerate(written("%Y-%m-%d"))
        ),
        "2 / 3",
        "2024-02-03",
        (7 * 9 * 6 + 2) % 101,
    ),
    "Nixtla": Kind(
        "unique_id,ds,y\n" + "".join(f"{s},{d},{k + s}\n" for s in (0, 1) for k, d in enumerate(written("%Y-%m-%d"))),
        "1",
        "2024-02-03",
        10,
    ),
    "two names of one thing": Kind(
        "date,country,iso,area,gdp\n"
        + "".join(
            f"{d},{c},{i},{len(c)},{k + len(c)}\n"
            for k, d in enumerate(written("%Y-%m-%d"))
            for c, i in (("France", "FR"), ("Chile", "CL"))
        ),
        "Chile",
        "2024-02-03",
        14,
        note="left out iso (texts), area (one value a series)",
    ),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_cell_is_on_its_day(tmp_path, kind):
    file = tmp_path / kind.name
    file.write_bytes(kind.content if isinstance(kind.content, bytes) else kind.content.encode())
    series = read_series(file, **(kind.options or {}))
    assert series.freq == kind.freq
    stamp = pd.Timestamp(kind.time)
    assert (stamp.tz is None) == (series.values.index.tz is None)
    assert series.values.loc[stamp, kind.series] == kind.value
    assert kind.note in series.note


REFUSED = {
    "days and months": (
        rows(["01/02/2024", "02/02/2024", "03/02/2024"], [1, 2, 3]),
        {},
        "--dates, one of dmy, mdy, ymd",
    ),
    "an order that is not theirs": (rows(written("%Y-%m-%d"), counted()), {"dates": "dmy"}, "with dates = dmy"),
    "an order that no date has": (
        rows(written("%d.%m.%Y"), counted()),
        {"dates": "mdy"},
        "row 1: '25.01.2024' is no time stamp .* with dates = mdy",
    ),
    "an order of nothing": (
        "a,b\n1,2\n3,5\n",
        {"dates": "dmy"},
        "dates = dmy, but there is no column of time stamps",
    ),
    "an order that is none": (rows(written("%Y-%m-%d"), counted()), {"dates": "dym"}, "unknown order of dates 'dym'"),
    "years of either century": (
        rows(["31.12.60", "31.12.61", "31.12.62"], [1, 2, 3]),
        {},
        "row 3: .* either century",
    ),
    "two columns called index": (
        "|index|a\n1|2|3\n",
        {},
        "a column is called 'index', as the first one without a name is",
    ),
    "two orders": (
        rows(["13/01/2024", "01/14/2024", "15/01/2024"], [1, 2, 3]),
        {},
        "row 2: '01/14/2024' is no time stamp",
    ),
    "months or days": (
        rows(["Mar-23", "Apr-23", "May-23"], [1, 2, 3]),
        {},
        "'Mar-23' may be a day of a month or a month",
    ),
    "thousands or decimals": (
        rows(written("%Y-%m-%d"), ['"1,234"'] * 20),
        {},
        "column|'1,234' may be a thousandfold: .* --decimal",
    ),
    "thousands or decimals, points": (
        rows(written("%Y-%m-%d"), ["1.234"] * 20, sign=";", heading="date;a"),
        {},
        "'1.234' may be",
    ),
    "both signs": (
        rows(written("%Y-%m-%d")[:2], ["1,5", "2.5"], "date;a", ";"),
        {},
        "'1,5' has a comma, '2.5' a point",
    ),
    "another sign than said": (
        rows(written("%Y-%m-%d")[:3], ["1,5", "2,5", "3,5"], "date;a", ";"),
        {"decimal": "."},
        "column 'a', row 1: '1,5' is no number",
    ),
    "a word": (
        rows(written("%Y-%m-%d"), ["closed", *counted(count=19)]),
        {},
        "column 'sales', row 1: 'closed' is no number",
    ),
    "a word in most rows": (
        rows(written("%Y-%m-%d"), ["7", *["closed"] * 19]),
        {},
        "column 'sales', row 2: 'closed' is no number",
    ),
    "an error of a spreadsheet": (
        rows(written("%Y-%m-%d"), ["#DIV/0!", *counted(count=19)]),
        {},
        "'#DIV/0!' is no number",
    ),
    "two currencies": (
        rows(written("%Y-%m-%d")[:2], ["€5", "$6"]),
        {},
        "row 2: '.6' is no number; its unit is another",
    ),
    "a square": (rows(written("%Y-%m-%d")[:2], ["5²", "6"]), {}, "row 1: '5²' is no number"),
    "a day that is not there": (
        rows(["29.01.2023", "29.02.2023", "29.03.2023"], [1, 2, 3]),
        {},
        "row 2: '29.02.2023' is no time",
    ),
    "a word below": (
        rows([*written("%d.%m.%Y")[:3], "Rabatt"], [1, 2, 3, 6]),
        {},
        "row 4: 'Rabatt' is no time stamp",
    ),
    "a report's head": ("Umsatz 2024;\nDatum;Umsatz\n01.01.2024;5\n", {}, "1 rows are too few"),
    "a report's head alone": ("Dynamic List Display\n\nDatum;Umsatz\n01.01.2024;5\n", {}, "1 rows are too few"),
    "offsets in some rows": (
        rows(["2024-01-01 00:00Z", "2024-01-01 01:00"], [1, 2]),
        {},
        "offsets from UTC differ .Z, none.",
    ),
    "two series of one name": (
        "store,date,sales\na,2024-01-01,1\na,2024-01-01,2\nb,2024-01-01,3\nb,2024-01-02,3\n",
        {"item": "store"},
        "'a' has two rows for",
    ),
    "two ways to name series": (
        "date,from,to,n\n"
        + "".join(
            f"{d},{a},{b},{k}\n"
            for k, d in enumerate(written("%Y-%m-%d"))
            for a, b in (("xy", "yx"), ("xx", "yy"))[k % 2]
        ),
        {},
        "may be named by from or to: say by --item which",
    ),
    "a season or a month": (
        rows([f"{y}/{y % 100 + 1:02}" for y in range(2001, 2012)], counted(count=11), "period,sales"),
        {},
        "'2001/02' may be a season of two years or a month",
    ),
    "a week that its year has not": (
        rows([f"2021,{k}" for k in range(1, 54)], counted(count=53), "year,week,sales"),
        {},
        "row 53: '2021-W53' is no time stamp",
    ),
    "no names, dates that look like some": (
        rows(written("%Y%m%d")[1:], counted("{},Berlin", 19), "20240125,0,Berlin"),
        {},
        "the first line, with '20240125', holds values",
    ),
    "times of day that cannot be read are no series": (
        rows([f"{d:%Y-%m-%d},{d.hour * 100}" for d in HOURS], counted(count=48), "Date,Time,sales"),
        {},
        "two rows have the time stamp",
    ),
    "a column in two roles": (
        "date,a,b\n2024-01-01,1,2\n2024-01-02,1,2\n2024-01-03,1,2\n",
        {"target": ["a", "b"], "feat_dynamic_real": ["b"]},
        "column 'b' is named twice",
    ),
    "a clock that is a series": (
        "date,a\n2024-01-01,1\n2024-01-02,1\n2024-01-03,1\n",
        {"time": "date", "target": ["date", "a"]},
        "column 'date' is named twice",
    ),
    "steps of nothing": (
        "date,a\n2024-01-01,1\n2024-01-02,1\n2024-01-03,1\n",
        {"freq": "0D"},
        "freq = 0D: no frequency",
    ),
    "a shop without a name": (
        "store,date,sales\na,2024-01-01,1\n,2024-01-01,2\n",
        {"item": "store"},
        "row 2: no store stands there",
    ),
}


@pytest.mark.parametrize(("content", "options", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_open_is_refused_in_one_line(tmp_path, content, options, message):
    (tmp_path / "data.csv").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message) as error:
        read_series(tmp_path / "data.csv", **options)
    assert "\n" not in str(error.value)


FRAME = pd.DataFrame({"date": DAYS, "sales": np.arange(20.0), "note": "x"})
WIDE = FRAME.set_index("date")[["sales"]]


@pytest.mark.parametrize(
    "data",
    [
        FRAME,
        WIDE,
        WIDE["sales"],
        FRAME.convert_dtypes(),
        FRAME.astype({"sales": str, "date": str}).astype("category"),
        FRAME.assign(sales=[Decimal(k) for k in range(20)]),
        FRAME.assign(sales=[*range(10), *map(str, range(10, 20))]),
        WIDE.set_axis(WIDE.index.to_period("D")),
        SimpleNamespace(to_pandas=lambda: FRAME),
        {"date": DAYS.to_numpy(), "sales": np.arange(20)},
        {"ds": list(map(str, DAYS)), "sales": np.arange(20)},
    ],
)
def test_what_python_has_in_place_of_a_file(data):
    series = read_series(data)
    assert (series.names, series.freq) == (["sales"], "D") and series.values.loc["2024-02-03", "sales"] == 9


def test_columns_of_several_levels_are_called_by_all_of_them(tmp_path):
    """As yfinance gives them, and as pandas writes them."""
    names = pd.MultiIndex.from_product([["Close", "High"], ["AA", "BB"]], names=["Price", "Ticker"])
    frame = pd.DataFrame(np.arange(80.0).reshape(20, 4), DAYS.rename("Date"), names)
    frame.to_csv(tmp_path / "data.csv")
    for data in (frame, frame.reset_index(), tmp_path / "data.csv"):
        series = read_series(data)
        assert series.names == ["Close AA", "Close BB", "High AA", "High BB"]
        assert series.values.loc["2024-02-03", "High AA"] == 38


def test_numbers_of_any_size_are_numbers():
    for values in (np.arange(20) * 1e19, np.arange(20, dtype=np.uint64) + np.uint64(2**64 - 20)):
        assert read_series(FRAME.assign(sales=values)).values["sales"].tolist() == values.astype(float).tolist()
    with pytest.raises(UserError, match="no column of numbers"):
        read_series(FRAME.assign(sales=1j))


def test_arrays_are_series_of_steps():
    assert read_series(np.arange(6.0).reshape(3, 2)).values["1"].tolist() == [1, 3, 5]
    assert read_series(np.arange(3)).values.to_numpy().tolist() == [[0], [1], [2]]
    assert read_series(pd.Series([4, 5, 7])).names == ["value"]
    for wrong in (np.zeros((2, 2, 2)), {"a": [1, 2], "b": [1]}, [1, 2], 7):
        with pytest.raises(UserError, match=r"^the table: "):
            read_series(wrong)


def test_arrow():
    pyarrow = pytest.importorskip("pyarrow")
    assert read_series(pyarrow.Table.from_pandas(FRAME)).values.loc["2024-02-03", "sales"] == 9


def test_parquet(tmp_path):
    WIDE.to_parquet(tmp_path / "data.parquet")
    assert read_series(tmp_path / "data.parquet").values.loc["2024-02-03", "sales"] == 9
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"bad\.parquet: not a table in Parquet"):
        read_series(tmp_path / "bad.parquet")


def test_workbooks(tmp_path):
    file = tmp_path / "data.xlsx"
    cells = ["-", "1.234,5", *range(2, 20)]
    with pd.ExcelWriter(file) as book:
        FRAME.assign(sales=cells).to_excel(book, sheet_name="Umsatz", index=False)
        pd.DataFrame().to_excel(book, sheet_name="leer")
    series = read_series(file)
    assert series.values["sales"].tolist()[1:] == [1234.5, *range(2, 20)] and "1 gap (marked '-' 1)" in series.note
    with pd.ExcelWriter(file) as book:
        FRAME.to_excel(book, sheet_name="Nord", index=False)
        FRAME.to_excel(book, sheet_name="Süd", index=False)
    with pytest.raises(UserError, match="has the sheets Nord, Süd: say by --sheet which"):
        read_series(file)
    file.write_bytes(b"PK")
    with pytest.raises(UserError, match=r"data\.xlsx: not a workbook"):
        read_series(file)
    with pytest.raises(UserError, match="no such file"):
        read_series(tmp_path / "none.xlsx")
    (tmp_path / "old.xls").write_bytes(b"\xd0\xcf\x11\xe0")
    with pytest.raises(UserError, match=r"\.xls is not read; save it as \.xlsx"):
        read_series(tmp_path / "old.xls")


def test_errors_of_a_workbook_are_no_gaps(tmp_path):
    file = tmp_path / "data.xlsx"
    FRAME.assign(sales=["#DIV/0!", *range(19)]).to_excel(file, index=False)
    with pytest.raises(UserError, match="row 1: '#DIV/0!' is no number"):
        read_series(file)
    FRAME.assign(sales=["#N/A", *range(19)]).to_excel(file, index=False)
    assert "1 gap (marked '#N/A' 1)" in read_series(file).note


def test_formulas_that_were_never_worked_out_are_refused(tmp_path):
    file = tmp_path / "data.xlsx"
    FRAME.assign(sales=[*range(19), "=SUM(B2:B20)"]).to_excel(file, index=False)
    with pytest.raises(UserError, match="B21 of sheet Sheet1 is a formula without a result"):
        read_series(file)


def test_a_sum_without_a_time_is_left_out_of_a_workbook(tmp_path):
    more = pd.concat([FRAME, pd.DataFrame({"sales": [190.0]})])
    more.to_excel(tmp_path / "data.xlsx", index=False)
    for data in (more, tmp_path / "data.xlsx"):
        series = read_series(data)
        assert series.values["sales"].tolist() == [*range(20)] and "1 row without date at the end" in series.note


def test_steps_numbered_in_each_series_are_counted():
    """As those of the M4 competition; series may be of other lengths, rows in another order of series."""
    rows = [(name, k + 1, 10 * k + place) for place, name in enumerate("ba") for k in range(20 + place)]
    series = read_series(pd.DataFrame(rows, columns=["unique_id", "ds", "y"]))
    assert series.freq == "" and series.values["a"].tolist() == [10 * k + 1 for k in range(21)]
    assert series.values["b"].tolist()[:20] == [10 * k for k in range(20)] and series.values["b"].isna().sum() == 1
    with pytest.raises(UserError, match="two rows have the time stamp 0"):
        read_series(pd.DataFrame(rows, columns=["unique_id", "ds", "y"]).drop(columns="unique_id"))


@pytest.mark.parametrize(
    ("numbers", "first", "freq"),
    [
        ([1949 + k / 12 for k in range(30)], "1949-01-01", "MS"),  # R's time
        ([round(1949 + k / 12, 2) for k in range(30)], "1949-01-01", "MS"),
        ([1949.25 + k / 4 for k in range(30)], "1949-04-01", "QS-OCT"),
        ([round(45292 + k / 24, 5) for k in range(30)], "2024-01-01", "h"),
        ([1704067200 + k / 2 for k in range(30)], "2024-01-01T00:00Z", "500ms"),
    ],
)
def test_times_as_fractions(tmp_path, numbers, first, freq):
    frame = pd.DataFrame({"time": numbers, "x": range(30)})
    frame.to_csv(tmp_path / "data.csv", index=False)
    for data in (frame, tmp_path / "data.csv"):
        series = read_series(data)
        assert (series.values.index[0], series.freq) == (pd.Timestamp(first), freq)
        assert series.values["x"].tolist() == [*range(30)]


def test_fractions_that_are_no_twelfths_are_refused():
    for numbers in ([1949 + k / 52 for k in range(60)], [2024.1, 2024.2, 2024.3, 2024.4, 2025.1]):
        with pytest.raises(UserError, match="is no time stamp"):
            read_series({"time": numbers, "x": np.arange(len(numbers))})
    prices = np.array([38_000.5, 38_100.25, 37_900.75, 38_000.0])
    with pytest.raises(UserError, match="is no time stamp"):
        read_series({"index": prices, "x": prices}, time="index")


def amounts(marks, values, name="S/H"):
    return pd.DataFrame({"day": DAYS[: len(marks)], "amount": values, name: marks})


def test_marks_of_debit_and_credit_beside_amounts():
    """Reversals have a sign beside the mark; amounts that have the marks' signs already, of either side, stay."""
    marks, values = ["S", "H", "S", "H"], [1.0, 2.0, -3.0, 4.0]
    for name, words in (("S/H", "SH"), ("D/C", "DC"), ("indicator", ("DBIT", "CRDT"))):
        given = [words[mark == "H"] for mark in marks]
        assert read_series(amounts(given, values, name)).values["amount"].tolist() == [-1, 2, 3, 4]
    for signed in ([-1.0, 2, -3, 4], [1.0, -2, 3, -4]):
        assert read_series(amounts(marks, signed)).values["amount"].tolist() == signed


def test_an_amount_without_its_mark_is_refused():
    marks = ["S", "H", "", "H"]
    with pytest.raises(UserError, match="column 'S/H', row 3: neither debit nor credit"):
        read_series(amounts(marks, [1.0, 2, 3, 4]))
    values = read_series(amounts(marks, [1.0, 2, np.nan, 4])).values["amount"]
    assert values.isna().tolist() == [False, False, True, False] and values.dropna().tolist() == [-1, 2, 4]


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/New_York"])
@pytest.mark.parametrize("place", ["index", "column", "file"])
def test_a_zone_is_one_clock_wherever_it_stands(tmp_path, zone, place):
    """Over both changes of a year: each hour once, the future at the local hours that follow."""
    hours = pd.date_range("2023-10-20", "2024-11-20", freq="h", tz=zone)
    frame = pd.DataFrame({"time": hours, "x": np.arange(len(hours))})
    if place == "file":
        frame["time"] = [stamp.isoformat() for stamp in hours]
        frame.to_csv(tmp_path / "data.csv", index=False)
    data = {"index": frame.set_index("time"), "column": frame, "file": tmp_path / "data.csv"}[place]
    series = read_series(data)
    assert series.freq == "h" and series.values["x"].tolist() == list(range(len(hours)))
    assert (series.values.index == hours).all() and series.values.index.hour.tolist() == hours.hour.tolist()
    assert series.before(5000).future_index(4000).equals(series.values.index[5000:9000])


def test_days_of_a_zone_are_local_days():
    days = pd.date_range("2024-03-25", periods=10, tz="Europe/Berlin")
    series = read_series(pd.DataFrame({"x": np.arange(10)}, days).drop(days[3]))
    assert series.freq == "D" and np.flatnonzero(series.values["x"].isna()).tolist() == [3]
    assert (series.future_index(3).hour == 0).all()
    moments = pd.DataFrame({"x": np.arange(10)}, days.tz_convert("UTC"))  # 23:00, then 22:00
    assert read_series(moments).freq == "D" and read_series(moments).values.index.equals(days)


def test_results_are_written_as_the_table_was(tmp_path):
    content = KINDS["shops and products"].content
    (tmp_path / "data.csv").write_text(content)
    series = read_series(tmp_path / "data.csv")
    back = series.layout.write_values(series.values)
    assert list(back.columns) == ["store", "product", "date", "sales"]
    again = read_series(back)
    pd.testing.assert_frame_equal(again.values, series.values)
    forecast = pd.DataFrame({"time": series.future_index(1).repeat(4), "series": series.names, "mean": [1, 2, 3, 4]})
    assert series.layout.write(forecast).iloc[3].tolist() == ["SO", "tea", pd.Timestamp("2024-02-14"), 4]
    wide = read_series(WIDE)
    assert list(wide.layout.write_values(wide.values).columns) == ["time", "sales"]


def test_results_have_the_zone_of_the_table(tmp_path):
    def first_written(name):
        kind = KINDS[name]
        (tmp_path / "data.csv").write_text(kind.content)
        series = read_series(tmp_path / "data.csv")
        return series.layout.write_values(series.values).to_csv(index=False).splitlines()[52].split(",")[0]

    assert first_written("offsets of a summer time") == "2024-03-31 04:00:00+02:00"
    assert first_written("an hour twice in autumn") == "2024-10-27 02:00:00"


def test_row_numbers_that_are_asked_for_are_kept(tmp_path):
    (tmp_path / "data.csv").write_text(",a\n0,1\n1,2\n2,4\n")
    assert read_series(tmp_path / "data.csv").names == ["a"]
    assert read_series(tmp_path / "data.csv", target=["index", "a"]).names == ["index", "a"]
    with pytest.raises(UserError, match="row 1: '0' is no time stamp"):
        read_series(tmp_path / "data.csv", time="index")
