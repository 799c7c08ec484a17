"""What a run did, on one page that needs nothing but a browser.

The report reads the JSON files and pictures of a run folder and invents no number: what is
shown is what a station wrote, a count or share of it, or a rounding of it. Every figure stands
in a ``<data value="…">`` element whose value is the unrounded one.

Public functions::

    from medaug.report.page import write_report
    write_report(Path("run"))                    # run/report.html

    from medaug.report.sheets import contact_sheet, sheet_name, write_sheet
    write_sheet(Path("run/sheets") / sheet_name("real", "cyst"), images, Window(-100, 200))

The page shows real patches of patients and says so at its top: it stays where the run folder
stays.
"""
